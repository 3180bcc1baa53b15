"""What goes wrong between here and the Hugging Face hub."""

from __future__ import annotations


def hub_faults(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """List what is raised where the hub refuses or a connection breaks off: its own error, its client's, and others."""
    from huggingface_hub.errors import HfHubHTTPError

    return (*(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)), *others)
