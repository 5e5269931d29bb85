"""e3nn, or an error that says how to get it: the equivariant head alone needs it."""

from structgen.errors import ConfigError

try:
    from e3nn import o3
    from e3nn.nn import Gate
except ImportError as error:
    raise ConfigError("the equivariant head needs e3nn, which is not installed: `python -m pip install -e '.[equivariant]'`") from error

__all__ = ["Gate", "o3"]
