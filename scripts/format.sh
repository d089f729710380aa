#!/usr/bin/env bash
# Formats every C and C++ file of the project with clang-format-19, or checks that they are formatted.
#
# usage: format.sh [--check]
#
# --check changes nothing and fails, naming each file and its first wrong line.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

command -v clang-format-19 >/dev/null || {
    echo "format: error: clang-format-19 is not installed: run 'make deps', or 'apt-get install clang-format-19'" >&2
    exit 1
}
# Tracked files and new ones alike, but nothing that .gitignore names; deleted files drop out.
mapfile -d '' -t files < <(git ls-files -z --cached --others --exclude-standard -- '*.cpp' '*.h' '*.c' '*.cc' '*.hpp' |
    while IFS= read -r -d '' file; do [ -f "$file" ] && printf '%s\0' "$file"; done)
[ ${#files[@]} -gt 0 ] || {
    echo "format: no C or C++ files" >&2
    exit 0
}
jobs=$(nproc)
if [ "${1-}" = --check ]; then
    printf '%s\0' "${files[@]}" | xargs -0 -n 16 -P "$jobs" clang-format-19 --dry-run --Werror --ferror-limit=1 || {
        echo "format: error: some files are not formatted (listed above): run 'make format'" >&2
        exit 1
    }
    echo "format: ${#files[@]} files are formatted"
elif [ $# -eq 0 ]; then
    printf '%s\0' "${files[@]}" | xargs -0 -n 16 -P "$jobs" clang-format-19 -i
    echo "format: formatted ${#files[@]} files"
else
    echo "format: error: unknown argument '$1' (usage: format.sh [--check])" >&2
    exit 2
fi
