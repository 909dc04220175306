"""Find the peaks and phases of one image: python 01_one_frame.py IMAGE [CONFIG]."""

import sys
from pathlib import Path

import tifffile

import gixi_bluesky as gixi

HERE = Path(__file__).parent


def main(image: str, config_file: str = str(HERE / "mapbbr3.yaml")) -> None:
    config = gixi.load_config(config_file)
    pipeline = gixi.Pipeline(config)  # builds maps, reads weights and CIFs once
    result = pipeline(tifffile.imread(image))
    print(result.peaks[["q", "q_error", "phi", "intensity", "snr", "kind"]])
    print(result.matches[["phase", "probability", "n_matched", "n_expected"]])
    print(result.match_peaks)


if __name__ == "__main__":
    main(*sys.argv[1:])
