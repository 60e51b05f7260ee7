"""What pyproject.toml cannot say: the version from Git's tags, links that must be links, and the files of jsPsych."""

import os
import sys
from email.parser import HeaderParser
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent

for name in ("flows", "pipelines", "schemas"):
    if not (HERE / "src/affectlake" / name).is_dir():
        sys.exit(
            f"src/affectlake/{name} is not a symbolic link to {name}/: Git made this clone without symbolic links\n"
            "  to do: git config core.symlinks true && git checkout -- src/affectlake"
        )

sys.path.insert(0, str(HERE / "src"))
from affectlake.errors import SourceError  # noqa: E402
from affectlake.experiment import jspsych  # noqa: E402
from affectlake.process import code_version  # noqa: E402

IN_GIT = (HERE / ".git").exists()
NO_TAG = f"{code_version.UNTAGGED}.dev0"


def numbered(found):
    """Return the version that setuptools-scm found, as the running code says it."""
    tag = str(found.tag)
    released = tag not in (NO_TAG, "0.0")  # "0.0": an archive of a repository without tags
    commit = (found.node or "").removeprefix("g")
    return code_version.numbered(
        tag if released else "", found.distance or 0, commit, IN_GIT and code_version.has_changes(HERE)
    )


def from_git():
    """Return what setuptools-scm is to do: the version of the commit, or of the archive that Git made of one."""
    return {
        "version_scheme": lambda found: numbered(found).partition("+")[0],
        "local_scheme": lambda found: "".join(numbered(found).partition("+")[1:]),
        "fallback_version": NO_TAG if IN_GIT else code_version.UNKNOWN,
        "scm": {"git": {"describe_command": " ".join(code_version.DESCRIBE)}},
    }


def add_jspsych(package):
    """Copy the files of jsPsych into the folder of the package; without them, they are downloaded at first use."""
    try:
        found = jspsych.jspsych_files()
    except SourceError as error:
        print(f"built without jsPsych: {error}", file=sys.stderr)
        return
    folder = Path(package) / "experiment/jspsych_files"
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in found.items():
        (folder / name).write_bytes(path.read_bytes())


class BuildWithJsPsych(build_py):
    """Builds what goes into a wheel."""

    def run(self):
        super().run()
        if not self.editable_mode:
            add_jspsych(Path(self.build_lib) / "affectlake")


class SdistWithJsPsych(sdist):
    """Makes an sdist, whose wheel needs no registry."""

    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        add_jspsych(Path(base_dir) / "src/affectlake")


if (HERE / "PKG-INFO").exists():  # an sdist: its version was found when it was made
    made = HeaderParser().parsestr((HERE / "PKG-INFO").read_text(encoding="utf-8"))["Version"]
    os.environ.setdefault("SETUPTOOLS_SCM_PRETEND_VERSION_FOR_AFFECTLAKE", made)
setup(use_scm_version=from_git(), cmdclass={"build_py": BuildWithJsPsych, "sdist": SdistWithJsPsych})
