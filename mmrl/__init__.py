"""Reinforcement-learning fine-tuning of multimodal and vision models. Start reading at `mmrl/trainer.py`."""

__version__ = "0.1.0"
