"""A step of one's own: the temperature of a film from its lattice, and a ratio of two lines.

Run it on an image:

    gixi-bluesky process frame.tif --config config.yaml --step thermometer.py::Thermometer

A package that ships it names it in pyproject.toml; configurations then say `steps: [thermometer]`:

    [project.entry-points."gixi_bluesky.steps"]
    thermometer = "my_package.thermometer:Thermometer"
"""

from gixi_bluesky.processing.steps import StepColumn


class Thermometer:
    """Temperature from the |q| of one line, T = T0 + (q0 / q - 1) / alpha, and I(q0) / I(q1).

    q0, q1: lines at T0, 1/angstrom; alpha: linear thermal expansion, 1/K; t0: T0, K
    """

    name = "thermometer"
    version = "1"
    columns = (
        StepColumn("temperature", float, "K", "from the thermal expansion of the lattice"),
        StepColumn("ratio", float, "", "intensity of the line at q0 over that at q1"),
    )

    def __init__(self, q0=1.059, q1=2.118, alpha=4.5e-5, t0=300.0):
        self.q0, self.q1, self.alpha, self.t0 = q0, q1, alpha, t0

    def __call__(self, result):
        """Return the row of a frame, None where one of the lines is not there."""
        first, second = (self.nearest(result.peaks, q) for q in (self.q0, self.q1))
        if first is None or second is None:
            return None
        temperature = self.t0 + (self.q0 / first["q"] - 1) / self.alpha
        return {"temperature": temperature, "ratio": first["intensity"] / second["intensity"]}

    @staticmethod
    def nearest(peaks, q):
        """Return the strongest peak about q, None where there is none."""
        near = peaks[(peaks["q"] - q).abs() < 0.03]
        return None if near.empty else near.loc[near["intensity"].idxmax()]
