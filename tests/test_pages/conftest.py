"""A browser for tests of pages: headless Chromium, driven by selenium.

``LSPT_MM_SCREENSHOTS=FOLDER`` keeps pictures of the pages.
"""

import os
import shutil
import time
from pathlib import Path

import pytest

#: Debian's packages, by the program each brings.
PACKAGES = {'chromium': 'chromium', 'chromedriver': 'chromium-driver'}


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    """selenium's driver, one for each file: its log then holds what that file's page has said.

    Without a browser the test is skipped, but in CI it fails.
    """
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if missing:
        told = f'no browser: install the Debian packages {" ".join(missing)}'
        if os.environ.get('CI', '').lower() == 'true':
            pytest.fail(told)
        pytest.skip(told)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which('chromium')
    for argument in (
        '--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu',
        '--window-size=1400,1700', '--no-proxy-server', '--lang=en',
        # Nothing but this machine can be reached, as on one without a connection.
        '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
        f'--user-data-dir={tmp_path_factory.mktemp("browser")}',
    ):
        options.add_argument(argument)
    options.set_capability('goog:loggingPrefs', {'performance': 'ALL', 'browser': 'ALL'})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which('chromedriver')))
    driver.set_script_timeout(30)
    yield driver
    driver.quit()


@pytest.fixture
def shot(browser):
    """``shot(name)`` keeps a picture of what the browser shows, if there is a folder for it."""

    def keep(name):
        folder = os.environ.get('LSPT_MM_SCREENSHOTS')
        if folder:
            time.sleep(1)  # fades of the page
            Path(folder).mkdir(parents=True, exist_ok=True)
            browser.save_screenshot(str(Path(folder) / f'{name}.png'))

    return keep
