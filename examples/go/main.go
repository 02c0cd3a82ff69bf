// A durable counter. Needs `tidegate serve`; docs/json.md of Tidegate has all that an action may answer.
//
//	go run .
//	curl localhost:9001/api/v1/system/demo/actors/counter/invoke -H 'content-type: application/json' -d '{"action": "increment"}'
package main

import (
	"cmp"
	"encoding/json"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
)

type count struct{ Count int `json:"count"` }

func act(w http.ResponseWriter, r *http.Request) {
	call := struct {
		Payload struct{ By *int }
		State   count
		Self    any
	}{}
	by := 1
	if err := json.NewDecoder(r.Body).Decode(&call); err != nil {
		http.Error(w, err.Error(), 400)
		return
	}
	if call.Payload.By != nil {
		by = *call.Payload.By
	}
	if by < 1 {
		http.Error(w, `{"reason": "it only counts up"}`, 422) // the state stays; the caller gets this
		return
	}
	call.State.Count += by
	json.NewEncoder(w).Encode(map[string]any{"self": call.Self, "state": call.State, "payload": call.State})
}

func main() {
	port, proxy := cmp.Or(os.Getenv("USER_FUNCTION_PORT"), "8090"), cmp.Or(os.Getenv("PROXY_HTTP_PORT"), "9001")
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		log.Fatal(err)
	}
	body := `{"system": "demo", "actors": [{"name": "counter", "actions": ["increment"]}]}`
	request, _ := http.NewRequest("POST", "http://127.0.0.1:"+proxy+"/api/v1/system", strings.NewReader(body))
	request.Header = http.Header{"Content-Type": {"application/json"}, "Tidegate-Host": {"http://127.0.0.1:" + port}}
	if answer, err := http.DefaultClient.Do(request); err != nil || answer.StatusCode != 200 {
		log.Fatal("not registered: ", answer, err)
	}
	http.HandleFunc("POST /api/v1/actors/actions", act)
	log.Fatal(http.Serve(listener, nil))
}
