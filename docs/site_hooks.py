"""What the site's build adds to MkDocs: equations. A ``math`` fence, which code hosts draw as well, becomes MathML, which browsers
draw by themselves, without a script or a font from elsewhere."""

import functools
from typing import Any

from latex2mathml.converter import convert


def formula(source: str, *_: Any, **__: Any) -> str:
    """A fence of LaTeX as a block of MathML."""
    return f'<div class="formula">{convert(source.strip(), display="block")}</div>'


def on_config(config: Any) -> Any:
    """Draw ``math`` fences with `formula`."""
    fence = {"name": "math", "class": "math", "format": functools.partial(formula)}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    return config
