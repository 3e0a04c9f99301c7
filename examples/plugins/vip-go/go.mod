module github.com/weir-project/weir/examples/plugins/vip-go

go 1.24

require github.com/weir-project/weir/sdk/go v0.0.0

replace github.com/weir-project/weir/sdk/go => ../../../sdk/go
