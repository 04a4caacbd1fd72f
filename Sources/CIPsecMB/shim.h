// intel-ipsec-mb's macros as functions that Swift can call. No logic lives here.
#pragma once
#include <intel-ipsec-mb.h>

static inline void sluice_gcm128_pre(IMB_MGR *manager, const void *key, struct gcm_key_data *schedule) {
    IMB_AES128_GCM_PRE(manager, key, schedule);
}
static inline void sluice_gcm256_pre(IMB_MGR *manager, const void *key, struct gcm_key_data *schedule) {
    IMB_AES256_GCM_PRE(manager, key, schedule);
}

// The functions that encrypt and decrypt a whole message with a nonce of 12 bytes, for the processor that this runs on.
static inline aes_gcm_enc_dec_t sluice_gcm_enc(const IMB_MGR *manager, int is256) {
    return is256 ? manager->gcm256_enc : manager->gcm128_enc;
}
static inline aes_gcm_enc_dec_t sluice_gcm_dec(const IMB_MGR *manager, int is256) {
    return is256 ? manager->gcm256_dec : manager->gcm128_dec;
}
