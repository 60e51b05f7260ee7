"""What the page says and loads: texts in two languages, the shell, and the files of jsPsych."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import pytest

from affectlake.errors import SourceError, UsageError
from affectlake.experiment import jspsych
from affectlake.experiment.page import LANGUAGES, fields_of, page_files, render_page, static_files, texts_of


def test_both_languages_say_the_same_things() -> None:
    """The same keys, the same fields, the same buttons in bold, and no text that is left in the other language."""
    texts = texts_of(LANGUAGES)
    assert set(texts) == {"de", "en"}
    english, german = texts["en"], texts["de"]
    assert list(english) == list(german)
    for key, text in english.items():
        assert fields_of(text) == fields_of(german[key]), key
        assert text.count("**") == german[key].count("**"), key
        assert text.count("\n- ") == german[key].count("\n- "), key
        assert german[key] != text or key in {"time_left", "clip"}, key
    for one in texts.values():
        assert f"**{one['stop']}**" in one["consent"]


def test_every_text_is_used_and_every_text_that_is_used_exists() -> None:
    scripts = "\n".join(path.read_text() for name, path in static_files().items() if name.endswith(".js"))
    used = set(re.findall(r"texts\.([a-z_0-9]+)", scripts)) | set(
        re.findall(r'"(feedback_[a-z_]+|media_failed)"', scripts)
    )
    problems = {
        f"problem_{name}" for name in re.findall(r'"([a-z_]+)"', scripts[scripts.index("PROBLEMS = [") :][:200])
    }
    used |= {
        "picture",
        "clip",
        "sound",
        "item",
        "end_done",
        "end_left",
        "end_withdrawn",
        "language_name",
        "loading_page",
    }
    known = set(texts_of(["en"])["en"])
    assert used - known == set()
    assert known - used - problems == set()


def test_wording_can_be_overridden_and_mistakes_are_named(tmp_path: Path) -> None:
    (tmp_path / "en.yaml").write_text("agree: Yes\n")
    assert texts_of(["en"], tmp_path)["en"]["agree"] == "Yes"
    (tmp_path / "en.yaml").write_text("agre: Yes\n")
    with pytest.raises(UsageError, match=r"'agre', which the page does not use") as caught:
        texts_of(["en"], tmp_path)
    assert "did you mean 'agree'?" in str(caught.value)
    (tmp_path / "en.yaml").write_text("progress: '{done} of {all}'\n")
    with pytest.raises(UsageError, match="a field that is not filled in"):
        texts_of(["en"], tmp_path)
    for wrong in ("- a\n", "agree: [1]\n", "a: b: c\n"):
        (tmp_path / "en.yaml").write_text(wrong)
        with pytest.raises(SourceError):
            texts_of(["en"], tmp_path)
    with pytest.raises(UsageError, match=r"texts are missing for the language 'fr'"):
        texts_of(["fr"], tmp_path)


def test_another_language_is_a_file_with_all_texts(tmp_path: Path) -> None:
    words = texts_of(["en"])["en"] | {"title": "Impair"}
    (tmp_path / "fr.yaml").write_text(json.dumps(words))
    assert texts_of(["fr", "en"], tmp_path)["fr"]["title"] == "Impair"


def test_consent_comes_from_a_file_in_each_language(tmp_path: Path) -> None:
    (tmp_path / "consent.md").write_text("I agree.")
    (tmp_path / "consent.de.md").write_text("Ja.")
    found = texts_of(["en", "de"], consent=tmp_path / "consent.md")
    assert (found["en"]["consent"], found["de"]["consent"]) == ("I agree.", "Ja.")
    with pytest.raises(SourceError, match="cannot be read"):
        texts_of(["en"], consent=tmp_path / "missing.md")


def test_the_shell_has_no_inline_code_and_no_foreign_address() -> None:
    page = render_page(texts_of(["en", "de"]), panel='"><script>alert(1)</script>')
    assert "laden Sie sie bitte neu" in page
    assert not re.search(r"<script(?![^>]*\ssrc=)", page)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|https?://", page)
    assert "alert(1)</script>" not in page
    for src in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert src in page_files()


def test_scripts_set_no_html_and_no_style() -> None:
    for name, path in static_files().items():
        if name.endswith(".js"):
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|\.style\b", path.read_text()
            )


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a registry that cannot be reached."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(jspsych.PACKAGE, raising=False)
    monkeypatch.setattr(jspsych, "ADDRESS", "http://127.0.0.1:9/jspsych.tgz")
    return tmp_path


def test_without_a_registry_one_message_says_what_to_do(nowhere: Path) -> None:
    with pytest.raises(SourceError) as caught:
        jspsych.jspsych_files()
    said = str(caught.value)
    assert "wanted: http://127.0.0.1:9/jspsych.tgz" in said
    assert "refused" in said
    assert "AFFECTLAKE_JSPSYCH" in said


def test_another_package_is_refused(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = nowhere / "other.tgz"
    with tarfile.open(other, "w:gz") as archive:
        member = tarfile.TarInfo("package/dist/index.browser.min.js")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"bad"))
    monkeypatch.setenv(jspsych.PACKAGE, str(other))
    with pytest.raises(SourceError, match="not the package of jsPsych"):
        jspsych.jspsych_files()
    monkeypatch.setenv(jspsych.PACKAGE, str(nowhere / "missing.tgz"))
    with pytest.raises(SourceError, match="cannot be read"):
        jspsych.jspsych_files()
    assert not list((nowhere / "cache").rglob("*.js"))


def test_a_changed_file_in_the_cache_is_not_served(nowhere: Path) -> None:
    folder = nowhere / "cache" / "affectlake" / f"jspsych-{jspsych.VERSION}"
    folder.mkdir(parents=True)
    for name in jspsych.FILES:
        (folder / name).write_text("alert(1)")
    with pytest.raises(SourceError, match="cannot be downloaded"):
        jspsych.jspsych_files()


def test_the_files_are_those_of_the_pinned_version() -> None:
    try:
        found = jspsych.jspsych_files()
    except SourceError as error:
        pytest.skip(str(error))
    assert set(found) == {"jspsych.js", "package.json"}
    for name, path in found.items():
        assert hashlib.sha512(path.read_bytes()).hexdigest() == jspsych.FILES[name][1]
    assert json.loads(found["package.json"].read_text())["version"] == jspsych.VERSION
    assert b"unpkg.com" not in found["jspsych.js"].read_bytes().rsplit(b"\n", 1)[-1]
