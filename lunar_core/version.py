"""The version, without asking the installed metadata: that costs more than all other imports here."""

__version__ = "0.1.0"
