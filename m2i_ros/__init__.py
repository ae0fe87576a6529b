"""Model-to-image registration for endovascular interventions: from a fluoroscopy frame to a transform."""

__version__ = '0.1.0'
