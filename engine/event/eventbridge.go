package event

// The EventBridge envelope:
//
//	{"version":"0","id":..,"detail-type":type,"source":..,"account":..,"time":..,
//	 "region":..,"resources":[subject],"detail":data}
//
// with replay-name on replayed events and trace-header where a rule passes it.

// bridgeOrder is how EventBridge writes its members.
var bridgeOrder = []string{
	"version", "id", "detail-type", "source", "account", "time", "region",
	"resources", "replay-name", "trace-header", carriedName, "detail",
}

func (d *decoder) bridgeSubject(resources []byte) *Error {
	if resources[0] != '[' {
		return d.wrong("subject", "is no array", resources)
	}
	d.ev.Subject = onlyText(resources)
	return nil
}

// onlyText is the string that is an array's only element, else "".
func onlyText(array []byte) string {
	values, _ := parseArray(array)
	if len(values) != 1 || values[0][0] != '"' {
		return ""
	}
	return unquote(values[0])
}

// putBridgeSubject leaves resources alone that say the same already.
func (t *tree) putBridgeSubject(i int, subject string) {
	path := []string{"resources"}
	resources := t.get(i, path)
	if resources != nil && resources[0] == '[' && onlyText(resources) == subject {
		return
	}
	if subject == "" {
		if resources != nil {
			t.set(i, path, []byte("[]"))
		}
		return
	}
	t.set(i, path, append(appendString([]byte("["), subject), ']'))
}

// putTrace writes a traceparent in X-Ray's form. It leaves a header alone that
// means the same already.
func (t *tree) putTrace(i int, path []string, value any) bool {
	header := t.get(i, path)
	current := ""
	if header != nil && header[0] == '"' {
		current, _ = TraceParent(unquote(header))
	}
	text, isText := value.(string)
	switch {
	case value == nil && current != "":
		t.set(i, path, nil)
		return true
	case value == nil, isText && text == current:
		return true
	}
	made, ok := XRay(text)
	if ok {
		t.set(i, path, appendString(nil, made))
	}
	return ok
}
