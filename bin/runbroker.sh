#!/bin/sh
# Java's mqbroker starts its virtual machine with this file. Here it is for installation guides that edit it: there is no
# heap, so that the line below has no meaning, whatever its numbers are.
# -server -Xms8g -Xmx8g -Xmn4g
echo "there is no virtual machine to start; start the broker with: sh $(dirname "$0")/mqbroker" >&2
exit 1
