#!/bin/sh
# From nothing to TLS traffic on kind: kind.sh up [ARGUMENTS OF kind create cluster] | down
# Needs Docker, kind, kubectl, make and openssl. docs/kind.md explains each step. KIND_CLUSTER_NAME names the cluster.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
name=${KIND_CLUSTER_NAME:-pypilot}
k() { kubectl --context "kind-$name" "$@"; }

case ${1:-} in
up)
  shift
  kind get clusters | grep -qx "$name" || kind create cluster --name "$name" --config "$here/cluster.yaml" --wait 120s "$@"
  make -C "$root" images
  kind load docker-image --name "$name" pypilot:0.1.0 pypilot-sidecar:0.1.0
  k apply --server-side --field-manager=pypilot -k "$here/../kubernetes/crds"
  k apply -k "$here"
  k -n istio-system rollout status deployment/pypilot deployment/istio-ingressgateway --timeout=300s
  if ! k -n istio-system get secret shop-credential >/dev/null 2>&1; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -keyout "$work/shop.key" \
      -out "$work/shop.crt" -subj /CN=shop.example.com -addext subjectAltName=DNS:shop.example.com 2>/dev/null
    k -n istio-system create secret tls shop-credential --cert "$work/shop.crt" --key "$work/shop.key"
  fi
  k apply -k "$here/../kubernetes/samples"
  k -n shop rollout status deployment/web-v1 deployment/web-v2 --timeout=300s
  cat <<Y

Ready. Try:
  kubectl --context kind-$name -n istio-system get secret shop-credential -o jsonpath='{.data.tls\.crt}' | base64 -d > shop.crt
  curl --cacert shop.crt --connect-to shop.example.com:443:localhost:8443 https://shop.example.com/
Y
  ;;
down)
  kind delete cluster --name "$name"
  ;;
*)
  sed -n 2,3p "$0" >&2
  exit 2
  ;;
esac
