"""Asks one readiness URL and says so by exit code: what a container's health command runs."""

import sys
import urllib.error
import urllib.request


def main() -> int:
    url = sys.argv[1]
    if not url.startswith("http://"):
        sys.stderr.write(f"not an http address: {url}\n")
        return 2
    try:
        with urllib.request.urlopen(url, timeout=4) as answer:  # noqa: S310 -- the scheme was checked above
            return 0 if answer.status == 200 else 1
    except (urllib.error.URLError, TimeoutError) as error:
        sys.stderr.write(f"{url}: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
