"""What the sums of calibration and demographic rounds say, with intervals that hold sampling and noise together."""
