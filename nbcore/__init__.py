"""Five medical vision-language papers over one thin package of models, losses and tasks."""

__version__ = "0.1.0"
