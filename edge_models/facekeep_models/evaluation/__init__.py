"""Measuring what ships: error rates and thresholds in the manner of ISO/IEC 19795."""
