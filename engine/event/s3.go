package event

import (
	"net/url"
	"strconv"
	"strings"
)

// testEventLayout tells the event that S3 sends when a notification is set up:
// {"Service":"Amazon S3","Event":"s3:TestEvent","Time":..,"Bucket":..,"RequestId":..,"HostId":..}.
var testEventLayout = Layout{
	Chain: []Envelope{S3},
	Marks: []Mark{at("Service"), at("Event"), at("Bucket")},
}

// maxRecords bounds the records of one notification. S3 sends one.
const maxRecords = 10_000

// decodeS3 maps each record as the CloudEvents adapter for S3 does: id from
// the request's two ids, source from event source, region and bucket, type
// com.amazonaws.s3.<event name>, subject the object's key (unescaped), and the
// record as data.
func decodeS3(raw []byte, chain []Envelope, lim Limits) ([]Event, error) {
	var prefix []string
	for _, e := range chain[:len(chain)-1] {
		prefix = join(prefix, envelopes[e].data)
	}
	notification := find(raw, prefix)
	if name := find(notification, []string{"Event"}); name != nil && string(name) == `"s3:TestEvent"` && find(notification, []string{"Records"}) == nil {
		return nil, ErrTestEvent
	}
	records, ok := parseArray(find(notification, []string{"Records"}))
	if !ok || len(records) == 0 || len(records) > maxRecords {
		return nil, &Error{Field: "Records", Reason: "is no array of 1 to " + strconv.Itoa(maxRecords) + " records", Offset: -1}
	}
	events := make([]Event, len(records))
	for i, record := range records {
		e, err := decodeRecord(record)
		if err != nil {
			err.Field = "Records[" + strconv.Itoa(i) + "]." + err.Field
			return nil, err
		}
		e.Chain, e.Original, e.limits = chain, raw, lim
		if len(records) > 1 {
			e.Chain = []Envelope{S3}
			e.Original = append(append([]byte(`{"Records":[`), record...), "]}"...)
		}
		events[i] = e
	}
	return events, nil
}

func decodeRecord(record []byte) (Event, *Error) {
	e := Event{DataContentType: "application/json", Data: record[:len(record):len(record)], DataKind: DataJSON}
	var first *Error
	text := func(path ...string) string {
		value := find(record, path)
		reason := "is missing"
		if value != nil {
			reason = notText(value, false)
		}
		if reason != "" {
			if first == nil {
				first = &Error{Field: strings.Join(path, "."), Reason: reason, Offset: -1}
			}
			return ""
		}
		return unquote(value)
	}
	e.ID = text("responseElements", "x-amz-request-id") + "." + text("responseElements", "x-amz-id-2")
	e.Source = uriReference(text("eventSource") + "." + text("awsRegion") + "." + text("s3", "bucket", "name"))
	// AWS writes ObjectCreated:Put, others s3:ObjectCreated:Put.
	e.Type = "com.amazonaws.s3." + strings.TrimPrefix(text("eventName"), "s3:")
	key := text("s3", "object", "key")
	e.TimeText = text("eventTime")
	if first != nil {
		return Event{}, first
	}
	var err error
	if e.Subject, err = url.QueryUnescape(key); err != nil {
		return Event{}, &Error{Field: "s3.object.key", Reason: "is not percent-encoded", Offset: -1}
	}
	i, bare, timeErr := parseTime([]byte(e.TimeText))
	if timeErr == nil && bare {
		timeErr = errTimeBare
	}
	if timeErr != nil {
		return Event{}, &Error{Field: "eventTime", Reason: timeErr.Reason, Offset: -1}
	}
	e.Time = i.time()
	return e, nil
}
