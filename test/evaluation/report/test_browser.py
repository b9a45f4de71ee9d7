"""The pages in a real browser: pictures load, no label is cut off, nothing is blank."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from nightseg_ros.evaluation.report.comparison import write_comparison

FLAGS = (
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--hide-scrollbars', '--window-size=1280,2000',
)  # fmt: skip
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy".*?>', re.S)
CHECK = """
<script>
addEventListener('load', () => {
  const cut = [], crossed = [], svgs = [...document.querySelectorAll('svg')];
  for (const svg of svgs) {
    const room = svg.getBoundingClientRect();
    const before = [];
    for (const text of svg.querySelectorAll('text')) {
      const box = text.getBoundingClientRect();
      for (const [other, name] of before) {
        if (box.left < other.right - 1 && other.left < box.right - 1 &&
            box.top < other.bottom - 4 && other.top < box.bottom - 4) {
          crossed.push([name, text.textContent]);
        }
      }
      before.push([box, text.textContent]);
      if (box.left < room.left - 1 || box.right > room.right + 1 ||
          box.top < room.top - 1 || box.bottom > room.bottom + 1) cut.push(text.textContent);
    }
  }
  const images = [...document.images];
  const result = document.createElement('pre');
  result.id = 'result';
  result.textContent = JSON.stringify({
    images: images.length,
    broken: images.filter(i => !(i.complete && i.naturalWidth > 0)).map(i => i.alt),
    svgs: svgs.length,
    flat: svgs.filter(s => s.getBoundingClientRect().height < 50).length,
    cut: cut,
    crossed: crossed,
    overflow: document.documentElement.scrollWidth - innerWidth,
  });
  document.body.append(result);
});
</script>
"""


@pytest.fixture(scope='module')
def browser() -> str:
    for name in ('chromium', 'chromium-browser', 'google-chrome'):
        found = shutil.which(name)
        if found:
            return found
    pytest.skip('no chromium, chromium-browser or google-chrome on the PATH')


def run(browser: str, page: Path, profile: Path, *flags: str) -> str:
    command = [browser, *FLAGS, f'--user-data-dir={profile}', *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout


@pytest.fixture
def page(request: pytest.FixtureRequest, pages, make_summary, tmp_path: Path) -> Path:
    if request.param != 'comparison':
        return pages(request.param)
    write_comparison(make_summary(), make_summary('replay'), tmp_path)
    return tmp_path / 'comparison.html'


@pytest.mark.parametrize('page', ['truth', 'replay', 'merged', 'comparison'], indirect=True)
def test_pictures_load_and_nothing_is_cut_off(browser: str, page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    checked = tmp_path / 'checked.html'
    # The page's own policy would not let a script run.
    assert POLICY.search(text)
    checked.write_text(POLICY.sub('', text).replace('</body>', f'{CHECK}</body>'))
    dom = run(browser, checked, tmp_path / 'profile', '--dump-dom')
    result = json.loads(re.search(r'<pre id="result">(.*?)</pre>', dom, re.S).group(1))
    assert result['images'] == text.count('<img')
    assert result['broken'] == []
    assert result['svgs'] == text.count('<svg')
    assert result['svgs'] >= 4
    assert result['flat'] == 0
    assert result['cut'] == []
    assert result['crossed'] == []
    assert result['overflow'] <= 0


@pytest.mark.parametrize(('scheme', 'dark'), [('1', False), ('0', True)])
def test_the_page_is_seen_by_day_and_by_night(
    scheme: str, dark: bool, browser: str, pages, tmp_path: Path
) -> None:
    picture = tmp_path / 'shot.png'
    run(
        browser, pages('truth'), tmp_path / 'profile', f'--screenshot={picture}',
        f'--blink-settings=preferredColorScheme={scheme}',
    )  # fmt: skip
    shot = cv2.imread(str(picture))
    assert shot is not None
    assert shot.shape[:2] == (2000, 1280)
    brightness = np.median(shot)
    assert brightness < 60 if dark else brightness > 200
    # Text and pictures on every part of it, not one empty sheet.
    for part in np.array_split(shot, 4):
        assert len(np.unique(part.astype(np.uint32) @ (1, 256, 65536))) > 50
