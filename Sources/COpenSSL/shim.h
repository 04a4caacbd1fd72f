// OpenSSL's macros and variadic functions as functions that Swift can call. No logic lives here.
#pragma once
// SRTP's HMAC copies SHA-1 contexts by value, which only the low-level interface allows; see Decision 001.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/time.h>

static inline EVP_PKEY *sluice_EVP_EC_gen(const char *curve) { return EVP_EC_gen(curve); }
static inline EVP_PKEY *sluice_EVP_RSA_gen(unsigned int bits) { return EVP_RSA_gen(bits); }
static inline EVP_PKEY *sluice_EVP_PKEY_gen(const char *type) { return EVP_PKEY_Q_keygen(NULL, NULL, type); }
static inline X509 *sluice_SSL_get1_peer_certificate(SSL *ssl) { return SSL_get1_peer_certificate(ssl); }
static inline long sluice_SSL_set_mtu(SSL *ssl, long mtu) { return SSL_set_mtu(ssl, mtu); }
static inline int sluice_SSL_CTX_use_dtls12_only(SSL_CTX *context) {
    return SSL_CTX_set_min_proto_version(context, DTLS1_2_VERSION)
        && SSL_CTX_set_max_proto_version(context, DTLS1_2_VERSION);
}
static inline uint64_t sluice_SSL_CTX_set_dtls_options(SSL_CTX *context) {
    return SSL_CTX_set_options(
        context,
        SSL_OP_NO_QUERY_MTU | SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_SINGLE_ECDH_USE
            | SSL_OP_CIPHER_SERVER_PREFERENCE);
}
static inline long sluice_SSL_CTX_set_max_send_fragment(SSL_CTX *context, long bytes) {
    return SSL_CTX_set_max_send_fragment(context, bytes);
}
static inline long sluice_SSL_CTX_release_buffers(SSL_CTX *context) {
    return SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
}
static inline long sluice_SSL_CTX_disable_session_cache(SSL_CTX *context) {
    return SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
}
static inline int sluice_SSL_CTX_set_groups(SSL_CTX *context, const char *groups) {
    return (int)SSL_CTX_set1_groups_list(context, groups);
}
static inline int sluice_SSL_get_negotiated_group(SSL *ssl) { return (int)SSL_get_negotiated_group(ssl); }
static inline int sluice_DTLSv1_get_timeout(SSL *ssl, struct timeval *left) {
    return (int)DTLSv1_get_timeout(ssl, left);
}
static inline int sluice_DTLSv1_handle_timeout(SSL *ssl) { return (int)DTLSv1_handle_timeout(ssl); }
static inline size_t sluice_BIO_pending(BIO *bio) { return (size_t)BIO_pending(bio); }
static inline long sluice_BIO_set_mem_eof_return(BIO *bio, int value) { return BIO_set_mem_eof_return(bio, value); }
static inline void sluice_EVP_GCM_set_tag(EVP_CIPHER_CTX *context, void *tag, int length) {
    EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, length, tag);
}
static inline int sluice_EVP_GCM_get_tag(EVP_CIPHER_CTX *context, void *tag, int length) {
    return EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, length, tag);
}
