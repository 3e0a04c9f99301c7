package event

// testEventLayout tells the event that S3 sends when a notification is set up:
// {"Service":"Amazon S3","Event":"s3:TestEvent","Time":..,"Bucket":..,"RequestId":..,"HostId":..}.
var testEventLayout = Layout{
	Chain: []Envelope{S3},
	Marks: []Mark{at("Service"), at("Event"), at("Bucket")},
}
