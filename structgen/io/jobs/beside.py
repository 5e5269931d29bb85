"""Files beside a job, for formats that name files where the job holds text."""

from __future__ import annotations

from structgen.features.job import Given, Job
from structgen.features.slug import safe_slug


class Beside:
    """Collects the files that a written job names; equal contents are one file."""

    def __init__(self, job: Job) -> None:
        self._stem = job.slug or safe_slug(job.name)
        self._names: dict[str, str] = {}
        self.files: dict[str, bytes] = {}

    def name(self, given: Given, title: str, suffix: str, folder: str = "") -> str:
        """The path to write for something given: its own, or that of a new file beside the job.

        The new file is called after the job and `title`; with a `folder`, its name is `title` alone, in a folder called after the job.
        """
        if given.path:
            return given.path
        if given.text not in self._names:
            name = f"{self._stem}_{safe_slug(folder)}/{title}{suffix}" if folder else f"{self._stem}_{safe_slug(title)}{suffix}"
            while name in self.files:
                name = name.removesuffix(suffix) + "_2" + suffix
            self._names[given.text] = name
            self.files[name] = given.text.encode()
        return self._names[given.text]
