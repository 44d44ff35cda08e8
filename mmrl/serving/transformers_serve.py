"""`transformers serve`, also where torchvision's image operators do not load.

    python -m mmrl.serving.transformers_serve --port 8000

The arguments are those of `transformers serve`; without torchvision's trouble the two are the same. For a few requests
at a time on a laptop and for tests: it completes one prompt after another. docs/rollout_servers.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmrl.compat import provide_image_decoder


def main(arguments: Sequence[str]) -> None:
    provide_image_decoder()
    from transformers.cli.transformers import main as transformers

    sys.argv = ["transformers", "serve", *arguments]
    transformers()


if __name__ == "__main__":
    main(sys.argv[1:])
