# Reads what `go test -v` prints. With -v want=skips: a line for each test that was skipped, with its reason. With
# -v want=failures: all that the failed tests said, and what was said outside of any test.

function forget() { delete said; delete last; current = "" }

/^=== (RUN|NAME|CONT) / { current = $3; next }
/^=== PAUSE / { next }

/^ *--- SKIP: / {
	if (want == "skips") {
		reason = last[$3]
		sub(/^ *[A-Za-z0-9_]+\.go:[0-9]+: /, "", reason)
		print $3 ": " reason
	}
	next
}
/^ *--- FAIL: / {
	if (want == "failures") printf "%s\n%s", $0, said[$3]
	next
}
/^ *--- (PASS|BENCH): / { next }
/^(PASS|FAIL)$/ { next }

# The end of a package: names of tests may come again.
/^(ok|\?) / { forget(); next }
/^(FAIL|---)\t/ {
	if (want == "failures") print
	# A test that took the process down has no verdict.
	if (want == "failures" && (current in said) && said[current] ~ /panic: |fatal error: |SIG[A-Z]+/) printf "%s: %s", current, said[current]
	forget()
	next
}

current == "" { if (want == "failures") print; next }
{
	said[current] = said[current] $0 "\n"
	if ($0 ~ /\.go:[0-9]+: /) last[current] = $0
}
