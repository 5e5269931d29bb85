"""Every method of the lecture as a picture: `structgen lecture`. Raises `ConfigError` on import where matplotlib is not installed."""

from structgen.errors import ConfigError

try:
    import matplotlib as _  # noqa: F401
except ModuleNotFoundError as error:
    raise ConfigError("pictures need matplotlib, which is not installed: run `python -m pip install -e '.[pictures]'`") from error
