"""An observer that writes down what it is asked and told."""


class Watching:
    """Writes down each call that starts, and how each ended."""

    def __init__(self):
        self.starts, self.outcomes = [], []

    def before(self, call):
        self.starts.append(call)

    def after(self, outcome):
        self.outcomes.append(outcome)
