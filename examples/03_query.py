"""Query the results in Tiled: python 03_query.py [FOLDER], after 02_runengine.py."""

import sys

from gixi_bluesky.tiled_adapters import queries
from gixi_bluesky.tiled_adapters.server import embedded_server


def main(folder: str = "example-results") -> None:
    with embedded_server(folder) as server:
        catalogue = server.catalog("gixi")
        for run in queries.with_phase(catalogue, "MAPbBr3", min_probability=0.9):
            print(run)
        for run in queries.with_peak(catalogue, q=1.06, tolerance=0.02):
            peaks = run.peaks(q=(1.04, 1.08))
            print(peaks[["frame", "q", "phi", "intensity", "intensity_error"]])
            print("unfinished:", len(queries.unfinished(catalogue)))


if __name__ == "__main__":
    main(*sys.argv[1:])
