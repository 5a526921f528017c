#!/bin/sh
# Make the namespace that calls live in, with its retention and our search attributes; harmless to repeat.
set -eu

: "${TEMPORAL_ADDRESS:?}" "${TEMPORAL_NAMESPACE:?}" "${RETENTION:?}"
export TEMPORAL_ADDRESS

# Try for two minutes: a server that has just started serves late, and a new namespace is seen some seconds late.
patiently() {
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        if [ "$tries" -ge 60 ]; then
            echo "namespace: gave up on: $*" >&2
            return 1
        fi
        sleep 2
    done
}

patiently temporal operator cluster health

# The namespace is an argument each time: `operator namespace` does not read TEMPORAL_NAMESPACE.
if temporal operator namespace describe -n "$TEMPORAL_NAMESPACE" >/dev/null 2>&1; then
    temporal operator namespace update -n "$TEMPORAL_NAMESPACE" --retention "$RETENTION"
else
    temporal operator namespace create -n "$TEMPORAL_NAMESPACE" --retention "$RETENTION"
fi

# One at a time: given several names, this command adds the first and reports success.
add_search_attribute() {
    patiently temporal operator search-attribute create -n "$TEMPORAL_NAMESPACE" --name "$1" --type "$2"
}

add_search_attribute LLMModel Keyword
add_search_attribute LLMOutcome Keyword
add_search_attribute LLMErrorCategory Keyword
add_search_attribute LLMSession Keyword
add_search_attribute LLMAttempts Int
add_search_attribute LLMCostUSD Double
echo "namespace: $TEMPORAL_NAMESPACE keeps calls for $RETENTION and has our search attributes"
