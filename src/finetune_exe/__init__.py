"""FINETUNE.EXE: the fine-tuning specialist whose advice can be checked."""

__version__ = "0.1.0"
