package gitops

import (
	"reflect"
	"strings"
)

// What stands for a secret value, as in kubectl diff: nothing of it, not even its
// length, but whether it has changed.
const (
	masked       = "***"
	maskedBefore = "*** (before)"
	maskedAfter  = "*** (after)"
)

// encryptedMark begins every value that SOPS has encrypted. Which fields are encrypted
// is the repository's choice, so it is looked for in every object.
// https://getsops.io/docs/#how-sops-works
const encryptedMark = "ENC["

// sopsField is where SOPS keeps the keys of what it has encrypted.
const sopsField = "sops"

// mask hides what is secret in an object as it was and as it will be; either may be nil.
func mask(before, after map[string]any) (map[string]any, map[string]any) {
	hidden := map[string]bool{sopsField: true}
	if isSecret(before) || isSecret(after) {
		hidden["data"], hidden["stringData"] = true, true
	}
	b, a := hide(before, after, func(field string) bool { return hidden[field] })
	from, _ := b.(map[string]any)
	to, _ := a.(map[string]any)
	return from, to
}

func isSecret(content map[string]any) bool {
	return content["apiVersion"] == "v1" && content["kind"] == "Secret"
}

// absent stands for a value that is not there.
type absent struct{}

// hide walks two values side by side. Below a field of which all says so every value is
// hidden, and else those that are encrypted in one of the two.
func hide(before, after any, all func(field string) bool) (any, any) {
	b, beforeIsMap := before.(map[string]any)
	a, afterIsMap := after.(map[string]any)
	bs, beforeIsList := before.([]any)
	as, afterIsList := after.([]any)
	switch {
	case isAbsent(before) && isAbsent(after):
		return before, after
	case (beforeIsMap || isAbsent(before)) && (afterIsMap || isAbsent(after)):
		return hideFields(b, a, all)
	case (beforeIsList || isAbsent(before)) && (afterIsList || isAbsent(after)):
		return hideElements(bs, as, all)
	case (beforeIsMap || beforeIsList || afterIsMap || afterIsList) && !isAbsent(before) && !isAbsent(after):
		// They have nothing in common.
		from, _ := hide(before, absent{}, all)
		_, to := hide(absent{}, after, all)
		return from, to
	}
	if !all("") && !isEncrypted(before) && !isEncrypted(after) {
		return before, after
	}
	switch {
	case isAbsent(before):
		return before, masked
	case isAbsent(after):
		return masked, after
	case reflect.DeepEqual(before, after):
		return masked, masked
	}
	return maskedBefore, maskedAfter
}

func hideFields(before, after map[string]any, all func(string) bool) (any, any) {
	var from, to map[string]any
	if before != nil {
		from = map[string]any{}
	}
	if after != nil {
		to = map[string]any{}
	}
	for _, fields := range []map[string]any{before, after} {
		for field := range fields {
			below := nothing
			if all(field) || all("") {
				below = everything
			}
			b, a := hide(valueOf(before, field), valueOf(after, field), below)
			if !isAbsent(b) {
				from[field] = b
			}
			if !isAbsent(a) {
				to[field] = a
			}
		}
	}
	return orAbsent(from), orAbsent(to)
}

func hideElements(before, after []any, all func(string) bool) (any, any) {
	from, to := make([]any, len(before)), make([]any, len(after))
	for i := range max(len(before), len(after)) {
		b, a := hide(element(before, i), element(after, i), all)
		if i < len(before) {
			from[i] = b
		}
		if i < len(after) {
			to[i] = a
		}
	}
	var b, a any = from, to
	if before == nil {
		b = absent{}
	}
	if after == nil {
		a = absent{}
	}
	return b, a
}

func nothing(string) bool    { return false }
func everything(string) bool { return true }

func isAbsent(v any) bool {
	_, ok := v.(absent)
	return ok
}

// orAbsent tells a map that is not there from an empty one.
func orAbsent(m map[string]any) any {
	if m == nil {
		return absent{}
	}
	return m
}

func valueOf(fields map[string]any, field string) any {
	if value, ok := fields[field]; ok {
		return value
	}
	return absent{}
}

func element(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return absent{}
}

// isEncrypted reports whether SOPS has encrypted a value.
func isEncrypted(v any) bool {
	text, ok := v.(string)
	return ok && strings.HasPrefix(text, encryptedMark)
}

// IsEncrypted reports whether SOPS has encrypted parts of an object: only who has the
// keys, as Flux, knows what it is.
func IsEncrypted(content map[string]any) bool {
	_, ok := content[sopsField]
	return ok
}
