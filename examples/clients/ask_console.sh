#!/usr/bin/env bash
# A request and its answer with Apache Kafka's own tools: ask_console.sh BOOTSTRAP KEY VALUE [OPERATION [PREFIX]]
# They are the .sh files of Kafka's bin directory, on PATH. Without an operation the request has no headers at all.
set -euo pipefail
bootstrap=$1 key=$2 value=$3 operation=${4:-} prefix=${5:-hal9.}

if [ -n "$operation" ]; then
    printf 'operation:%s\t%s\t%s\n' "$operation" "$key" "$value"
else
    printf '%s\t%s\n' "$key" "$value"
fi | kafka-console-producer.sh --bootstrap-server "$bootstrap" --topic "${prefix}requests" \
    --reader-property parse.key=true --reader-property "parse.headers=$([ -n "$operation" ] && echo true || echo false)"

# Headers, key and value of the answer, in a line; the newest one of this key is not told from older ones here.
coproc ANSWERS {
    exec kafka-console-consumer.sh --bootstrap-server "$bootstrap" --topic "${prefix}responses" --from-beginning \
        --formatter-property print.headers=true --formatter-property print.key=true
}
grep -m 1 -P "\t\Q$key\E\t" <&"${ANSWERS[0]}"
kill "$ANSWERS_PID"
