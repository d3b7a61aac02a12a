"""Settings: command line > environment > project files > defaults."""

from pathlib import Path

import pytest

from tinyhil.errors import UsageError
from tinyhil.harness.settings import load_settings, override


def test_defaults_need_no_file(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {})
    assert settings.boards == ()
    assert settings.engine == ("tinyengine",)
    assert settings.path(settings.store) == tmp_path / ".tinyhil" / "results.db"


def test_the_stronger_source_wins(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.tinyhil]\nboards = ["stm32f746"]\ntimeout = 5\n')
    (tmp_path / "tinyhil.toml").write_text("timeout = 6\nrepeats = 2\n")
    settings = load_settings(tmp_path, {"TINYHIL_REPEATS": "3"})
    assert settings.boards == ("stm32f746",)
    assert settings.timeout == 6
    assert settings.repeats == 3
    assert override(settings, repeats=4, boards=()).repeats == 4
    assert override(settings, repeats=None, boards=()).boards == ("stm32f746",)


def test_engine_tables_are_kept_for_their_engine(tmp_path: Path) -> None:
    (tmp_path / "tinyhil.toml").write_text('engine = ["cmsis-nn"]\n[engines.cmsis-nn]\nkit = "/kits/nn"\n')
    settings = load_settings(tmp_path, {})
    assert settings.engine == ("cmsis-nn",)
    assert settings.engines["cmsis-nn"]["kit"] == "/kits/nn"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("bords = ['x']", "unknown key 'bords'"),
        ("timeout = -1", "timeout must be a positive number"),
        ("timeout = 'soon'", "timeout must be a positive number"),
        ("timeout = ", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_named_with_its_fault(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "tinyhil.toml").write_text(text)
    with pytest.raises(UsageError, match=complaint) as caught:
        load_settings(tmp_path, {})
    assert "tinyhil.toml" in str(caught.value)
