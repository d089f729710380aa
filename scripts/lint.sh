#!/usr/bin/env bash
# Static checks: formatting, shellcheck over every script, clang-tidy over every translation unit.
#
# usage: lint.sh [--jobs N]
#
# All three run even when the first one fails, so that one run shows everything there is to mend.
# clang-tidy remembers which files passed (scripts/clang_tidy.py).
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

jobs=$(nproc)
case ${1-} in
    '') ;;
    --jobs) jobs=${2:?--jobs needs a number} ;;
    *) echo "lint: error: unknown argument '$1' (usage: lint.sh [--jobs N])" >&2; exit 2 ;;
esac

failed=()
scripts/format.sh --check || failed+=(format)

# Tracked or new, by name or by first line.
mapfile -t scripts < <({
    git ls-files --cached --others --exclude-standard -- '*.sh'
    git grep --untracked -lIE '^#!.*\b(ba)?sh$' -- ':!*.md' | while IFS= read -r file; do
        head -n 1 -- "$file" | grep -qE '^#!.*\b(ba)?sh$' && printf '%s\n' "$file"
    done
} | sort -u)
if shellcheck --external-sources "${scripts[@]}"; then
    echo "shellcheck: ${#scripts[@]} scripts are clean"
else
    failed+=(shellcheck)
fi

[ -f build/compile_commands.json ] || cmake --preset release >/dev/null
/usr/bin/python3 scripts/clang_tidy.py --build build --jobs "$jobs" || failed+=(clang-tidy)

if [ ${#failed[@]} -gt 0 ]; then
    echo "lint: error: ${failed[*]} failed (findings above)" >&2
    exit 1
fi
echo "lint: clean"
