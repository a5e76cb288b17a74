"""How the figures of all servers are shown: a row a server, and ours as multiples of the others."""

from typing import Any


def show(result: dict[str, Any], small: list[str], larger: str, triton: tuple[str, ...]) -> None:
    """Two tables and what stands against the bars; `triton` are the settings of Triton's binary, the best counts."""
    cases, ours = [*small, larger], result["ours"]
    servers = {f"Lepton, {result['door']} door": ours, "Go echo": result["echo"], **result["peers"]}
    print(f"\nRequests/s (p50, p99 ms); {result['machine']}, shared with the load generator")
    _row("server", *cases, "CPU us at 64", "MB, idle / after")
    _row(*["---"] * (len(cases) + 3))
    for name, told in servers.items():
        if "error" in told and small[0] not in told:
            _row(name, f"does not run: {told['error']}")
            continue
        _row(name, *(_figure(told.get(case)) for case in cases), _cpu(told.get(small[2])),
             f"{_mb(told['rss_bytes'])} / {_mb(told.get('rss_after_bytes', 0))}")
        if "error" in told:
            print(f"{name} ended with: {told['error']}")
    print("\nLepton's requests/s as a multiple of each server's")
    _row("server", *cases, "memory")
    _row(*["---"] * (len(cases) + 2))
    for name, told in list(servers.items())[1:]:
        if "rss_bytes" in told:
            _row(name, *(_ratio(ours.get(case), told.get(case)) for case in cases),
                 f"{ours['rss_bytes'] / told['rss_bytes']:.2f}")
    _row("the better Triton", *(_ratio(ours.get(case), _best(result["peers"], triton, case)) for case in cases), "")
    bare, echo = result["bare"], result["echo"]
    print(f"\np50 of one client {ours[small[0]]['p50_ms'] / echo[small[0]]['p50_ms']:.2f} of the echo's; {larger}: "
          f"{ours[larger]['requests_per_s'] / bare['rows_per_s']:.2f} of ONNX Runtime alone in batches of 32 "
          f"({bare['rows_per_s']:.0f} rows/s) while an echo took {bare['echo']['requests_per_s']:.0f} requests/s")


def _best(peers: dict[str, Any], names: tuple[str, ...], case: str) -> dict[str, Any] | None:
    """Of several settings of one server the fastest in a case."""
    found = [peers[name][case] for name in names if case in peers.get(name, {})]
    return max(found, key=lambda one: float(one["requests_per_s"])) if found else None


def _row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def _figure(seen: dict[str, Any] | None) -> str:
    if seen is None:
        return "–"
    failed = f", {seen['failed']} failed" if seen["failed"] else ""
    return f"{seen['requests_per_s']:,.0f} ({seen['p50_ms']:.1f}, {seen['p99_ms']:.1f}{failed})"


def _cpu(seen: dict[str, Any] | None) -> str:
    return "–" if seen is None else f"{seen['cpu_us']:.0f}"


def _mb(size: int) -> str:
    return f"{size / 2**20:.0f}"


def _ratio(ours: dict[str, Any] | None, theirs: dict[str, Any] | None) -> str:
    if ours is None or theirs is None or not theirs["requests_per_s"]:
        return "–"
    return f"{ours['requests_per_s'] / theirs['requests_per_s']:.2f}"
