#!/usr/bin/env bash
exec bash "$(dirname "${BASH_SOURCE[0]}")/../evaluate.sh" svfap_base dfew "$@"
