"""The site of docs/: pages that are made when it is built. `scripts/docs.sh` builds it."""
