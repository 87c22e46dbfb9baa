#!/usr/bin/env python3
"""Judges the reports of Autobahn|Testsuite's fuzzing servers on one client: summary.py AGENT CASES INDEX ...

INDEX is the index.json that a server writes; several have shared the cases between them. Every case has to be OK or
INFORMATIONAL, both in what it is about and in how the connection was closed; NON-STRICT is not enough. CASES is how many
cases must have run. Prints what fails and the sums; exits with 1 where something fails, with 2 where there is nothing to
judge.
"""
import collections
import json
import sys

PASSED = ("OK", "INFORMATIONAL")


def order(case):
    """1.1.10 comes behind 1.1.9."""
    return [int(part) if part.isdigit() else 0 for part in case.split(".")]


def main():
    if len(sys.argv) < 4:
        print(__doc__, file=sys.stderr)
        return 2
    _, agent, expected, *paths = sys.argv
    cases = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                # A server that had no case knows nothing of the client.
                cases.update(json.load(file).get(agent, {}))
        except (OSError, ValueError) as error:
            print(f"no report in {path}: {error!r}", file=sys.stderr)
            return 2

    failed = 0
    verdicts = collections.Counter()
    for case in sorted(cases, key=order):
        behavior = cases[case].get("behavior")
        close = cases[case].get("behaviorClose")
        verdicts[f"{behavior}, close {close}"] += 1
        if behavior not in PASSED or close not in PASSED:
            failed += 1
            print(f"case {case}: {behavior}, close {close} (closed with {cases[case].get('remoteCloseCode')})")
    for verdict, count in sorted(verdicts.items()):
        print(f"{count:5} {verdict}")
    print(f"{len(cases)} cases of {expected}, {failed} failed")
    return int(failed > 0 or not cases or len(cases) != int(expected))


if __name__ == "__main__":
    sys.exit(main())
