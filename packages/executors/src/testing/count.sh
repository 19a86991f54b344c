# Counts up to the input's "to", saves after each, and begins where the newest checkpoint stands. Bash and its own words only.
read -r start <&3
echo '{"type":"load_checkpoint"}' >&4
read -r loaded <&3
from=0
[[ $loaded =~ \"value\":([0-9]+) ]] && from=${BASH_REMATCH[1]}
[[ $start =~ \"to\":([0-9]+) ]] && to=${BASH_REMATCH[1]}
for ((i = from + 1; i <= to; i++)); do
  echo "{\"type\":\"progress\",\"fraction\":$(printf '0.%02d' $((i * 99 / to)))}" >&4
  echo "{\"type\":\"save_checkpoint\",\"value\":$i}" >&4
  read -r saved <&3
done
echo "{\"type\":\"result\",\"value\":{\"from\":$from,\"to\":$to}}" >&4
