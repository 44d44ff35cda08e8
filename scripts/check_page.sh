#!/usr/bin/env bash
# The types of the viewer's page (web/js, JSDoc) by the TypeScript compiler, which is installed once into build/.
# usage: scripts/check_page.sh        needs node and npm; says so and is content where they are not
set -euo pipefail
cd "$(dirname "$0")/.."
version=5.9.3
if ! command -v node > /dev/null || ! command -v npm > /dev/null; then
    echo "check_page: SKIPPED, the page's types are not checked: node and npm are not installed"
    exit 0
fi
folder=build/typescript-$version
[ -f "$folder/node_modules/typescript/bin/tsc" ] || npm install --silent --no-save --no-audit --no-fund --prefix "$folder" "typescript@$version"
node "$folder/node_modules/typescript/bin/tsc" -p web
echo "check_page: no type errors in web/js"
