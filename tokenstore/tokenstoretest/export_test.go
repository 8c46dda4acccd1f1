package tokenstoretest

import "time"

func init() { patience = time.Second } // there is no database behind these stores
