package pull_test
const quietEnv = "MOORAGE_PULL_QUIET"
func beQuiet(string) {}
