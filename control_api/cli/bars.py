"""What moves while a command waits: bars of downloads. Loaded by the commands that show them only."""

from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, Task
from rich.text import Text

from control_api.cli.output import plain


class Words(ProgressColumn):
    """A field of a bar, as plain text."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def render(self, task: Task) -> Text:
        """Return the text as it is now."""
        return plain(task.fields[self._name])


def downloads(*, quiet: bool) -> Progress:
    """Return bars whose fields are ``what`` and ``moving``."""
    return Progress(Words("what"), BarColumn(), DownloadColumn(), Words("moving"), disable=quiet)
