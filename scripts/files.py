"""How Hydra reads the YAML of a user's --config-dir: by the same strict reader as everything else."""

from pathlib import Path

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from hvgym.envs import yaml_file


class CheckedFiles(FileConfigSource):
    """Hydra's own source of files, which a few lines of aliases would fill memory with, and which says nothing of a byte
    that is not UTF-8."""

    def load_config(self, config_path: str) -> ConfigResult:
        """See Hydra. Raises `InputError` that names the file."""
        file = Path(self.path) / self._normalize_file_name(config_path)
        if not file.exists():
            return super().load_config(config_path)
        config = OmegaConf.create(yaml_file.read(file))
        header = ConfigSource._get_header_dict(file.read_text(encoding="utf-8-sig")[:512])
        return ConfigResult(config=config, path=f"{self.scheme()}://{self.path}", provider=self.provider, header=header)


CheckedFiles.__name__ = (
    FileConfigSource.__name__
)  # by which workers of a launcher know that the scheme is taken already


def check_files() -> None:
    """Let Hydra read files so."""
    Plugins.instance()  # registers Hydra's own sources, which this one replaces
    SourcesRegistry.instance().types["file"] = CheckedFiles
