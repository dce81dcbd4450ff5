"""The mean of two detectors of one descent, weight by weight: near where both are, and at times better than either.

    python -m facekeep_models.training.detector.mix --from FILE.onnx --and FILE.onnx --share 0.2 --work DIR --into mixed

M. Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022: what a further stage forgot of its beginning comes back
sooner than what it learnt goes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from facekeep_models.training.detector.export import write_onnx
from facekeep_models.training.detector.network import Detector
from facekeep_models.training.detector.publish import FILE
from facekeep_models.training.detector.restore import restored


def mixed(begun: bytes, ended: bytes, share: float) -> Detector:
    """Return the network whose weights are the mean of those of two files.

    Args:
        begun: the ONNX file a stage began with.
        ended: what it became; strangers cannot be mixed, for their channels mean different things.
        share: of the first, 0 to 1.

    Raises:
        ModelError: "model.invalid_model" if one of them is not of this recipe.
        ValueError: for a share out of range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share is 0 to 1, found {share}")
    first, network = restored(begun).state_dict(), restored(ended)
    network.load_state_dict({
        name: value.lerp(first[name], share) if value.dtype.is_floating_point else value
        for name, value in network.state_dict().items()
    })  # fmt: skip
    return network


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m facekeep_models.training.detector.mix", description=__doc__)
    parser.add_argument("--from", dest="begun", type=Path, required=True, help="ONNX file a stage began with")
    parser.add_argument("--and", dest="ended", type=Path, required=True, help="ONNX file that came of it")
    parser.add_argument("--share", type=float, required=True, help="of the first, 0 to 1")
    parser.add_argument("--work", type=Path, required=True, help="as of the recipe")
    parser.add_argument("--into", required=True, help="folder in that of --work for the file")
    options = parser.parse_args(arguments)
    into = options.work / options.into
    into.mkdir(mode=0o700, exist_ok=True)
    write_onnx(mixed(options.begun.read_bytes(), options.ended.read_bytes(), options.share), into / FILE)


if __name__ == "__main__":
    main()
