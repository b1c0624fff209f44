"""The types of answers: plain values, imported by everything else, including the errors."""
