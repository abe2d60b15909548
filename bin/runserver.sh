#!/bin/sh
# Java's mqnamesrv starts its virtual machine with this file. Here it is for installation guides that edit it: there is no
# heap, so that the line below has no meaning, whatever its numbers are.
# -server -Xms4g -Xmx4g -Xmn2g
echo "there is no virtual machine to start; start the name server with: sh $(dirname "$0")/mqnamesrv" >&2
exit 1
