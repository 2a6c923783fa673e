from pathlib import Path

import pytest
from support.host import Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "host")
