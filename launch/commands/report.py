"""`actsearch report`: a run as one HTML file that opens anywhere."""

from __future__ import annotations

from pathlib import Path

from spaces.scratch import scratch_path

from ..errors import DONE, RequestError
from ..printable import printable

FILE_NAME = "report.html"


def report(run: Path, *, output: Path | None = None, against: list[Path] | None = None) -> int:
    """Write a run as one HTML file that needs no server and no network.

    Parameters
    ----------
    run
        The run's folder, while it goes on or long after.
    output
        The file to write; report.html in the run's folder unless told otherwise.
    against
        Another run, whose best so far is shown beside; may be repeated.
    """
    from ..report import gather, render

    path = output or run / FILE_NAME
    if path.suffix.lower() not in (".html", ".htm"):
        raise RequestError(f"`output` must be a file that ends in .html, got {path}")
    if output is not None and (output.is_dir() or not output.parent.is_dir()):
        raise RequestError(f"`output` must be a file in a folder that is there, got {output}")
    page = render(gather(run, against or ()))
    scratch = scratch_path(path.parent, f".{path.name}")
    try:
        with scratch.open("xb") as stream:  # never through a link that lies there
            stream.write(page)
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise RequestError(
            f"`output`: cannot write {path} ({error.strerror}); name another file with --output"
        ) from None
    print(printable(f"{path}  {len(page) / 1e6:.1f} MB"))
    return DONE
