/* lwIP's raw API with two interfaces, joined by two rings of packets. Its state is global: both ends are one stack's. */

#include <stdlib.h>
#include <string.h>

#include "lwip/init.h"
#include "lwip/ip.h"
#include "lwip/netif.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/tcp.h"

#define SLOTS 256
#define SIZE 1600

struct slot {
    u16_t len;
    unsigned char data[SIZE];
};

struct wire {
    struct slot slots[SLOTS];
    unsigned head, len;
};

/* One end of a connection. */
struct end {
    struct tcp_pcb *pcb;
    struct pbuf *rx, *last; /* received: one after another, their tot_len void */
    struct end *next;
    u16_t used; /* of the first */
    u16_t peer;
    u8_t dead;
};

static struct netif netifs[2];
static struct wire wires[2]; /* what the client sends, and what the server does */
static struct end *accepted;

static err_t output(struct netif *netif, struct pbuf *p, const ip4_addr_t *to) {
    struct wire *wire = &wires[netif - netifs];
    struct slot *slot;
    (void)to;
    if (wire->len == SLOTS || p->tot_len > SIZE)
        return ERR_MEM;
    slot = &wire->slots[(wire->head + wire->len++) % SLOTS];
    slot->len = pbuf_copy_partial(p, slot->data, p->tot_len, 0);
    return ERR_OK;
}

static err_t init(struct netif *netif) {
    netif->output = output;
    netif->mtu = 1500;
    netif->flags |= NETIF_FLAG_LINK_UP;
    return ERR_OK;
}

static err_t received(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err) {
    struct end *end = arg;
    (void)pcb, (void)err;
    if (p == NULL)
        return ERR_OK;
    if (end->rx == NULL)
        end->rx = p;
    else
        end->last->next = p;
    while (p->next != NULL)
        p = p->next;
    end->last = p;
    return ERR_OK;
}

static void failed(void *arg, err_t err) {
    struct end *end = arg;
    (void)err;
    end->pcb = NULL;
    end->dead = 1;
}

static err_t connected(void *arg, struct tcp_pcb *pcb, err_t err) {
    (void)arg, (void)pcb, (void)err;
    return ERR_OK;
}

static struct end *attach(struct tcp_pcb *pcb) {
    struct end *end = calloc(1, sizeof *end);
    if (end == NULL)
        return NULL;
    end->pcb = pcb;
    tcp_arg(pcb, end);
    tcp_recv(pcb, received);
    tcp_err(pcb, failed);
    return end;
}

static err_t accepting(void *arg, struct tcp_pcb *pcb, err_t err) {
    struct end *end;
    (void)arg;
    if (err != ERR_OK || pcb == NULL)
        return ERR_VAL;
    end = attach(pcb);
    if (end == NULL)
        return ERR_MEM;
    end->peer = pcb->remote_port;
    end->next = accepted;
    accepted = end;
    return ERR_OK;
}

void peers_lwip_init(u32_t client, u32_t server) {
    u32_t addrs[2] = {client, server};
    int i;
    lwip_init();
    for (i = 0; i < 2; i++) {
        ip4_addr_t addr = {addrs[i]}, mask = {lwip_htonl(0xffffff00)}, gateway = {0};
        netif_add(&netifs[i], &addr, &mask, &gateway, NULL, init, ip4_input);
        netif_set_up(&netifs[i]);
        netif_set_link_up(&netifs[i]);
    }
}

int peers_lwip_listen(u16_t port) {
    struct tcp_pcb *pcb = tcp_new();
    err_t err;
    if (pcb == NULL)
        return ERR_MEM;
    tcp_bind_netif(pcb, &netifs[1]);
    err = tcp_bind(pcb, IP_ADDR_ANY, port);
    if (err != ERR_OK)
        return err;
    pcb = tcp_listen_with_backlog(pcb, 255);
    if (pcb == NULL)
        return ERR_MEM;
    tcp_accept(pcb, accepting);
    return ERR_OK;
}

struct end *peers_lwip_connect(u32_t server, u16_t port, int *error) {
    struct tcp_pcb *pcb = tcp_new();
    ip_addr_t to = IPADDR4_INIT(server);
    struct end *end;
    *error = ERR_MEM;
    if (pcb == NULL || (end = attach(pcb)) == NULL)
        return NULL;
    tcp_bind_netif(pcb, &netifs[0]);
    *error = tcp_connect(pcb, &to, port, connected);
    return *error == ERR_OK ? end : NULL;
}

/* The server's end of a client's connection, or NULL; *dead: it was refused. */
struct end *peers_lwip_accept(struct end *client, int *dead) {
    struct end **at;
    *dead = client->dead;
    if (client->dead)
        return NULL;
    for (at = &accepted; *at != NULL; at = &(*at)->next) {
        struct end *end = *at;
        if (end->peer == client->pcb->local_port) {
            *at = end->next;
            return end;
        }
    }
    return NULL;
}

/* Bytes taken, or an error below 0. */
int peers_lwip_send(struct end *end, const void *data, size_t len) {
    size_t room;
    err_t err;
    if (end->pcb == NULL)
        return ERR_CLSD;
    room = tcp_sndbuf(end->pcb);
    if (len > room)
        len = room;
    /* tcp_write refuses more than half the window at once. */
    if (len > 16384)
        len = 16384;
    if (len == 0)
        return 0;
    err = tcp_write(end->pcb, data, (u16_t)len, TCP_WRITE_FLAG_COPY);
    if (err == ERR_MEM)
        return 0;
    if (err != ERR_OK)
        return err;
    err = tcp_output(end->pcb);
    return err == ERR_OK ? (int)len : err;
}

static void free_first(struct end *end) {
    struct pbuf *p = end->rx;
    end->rx = p->next;
    end->used = 0;
    p->next = NULL;
    p->tot_len = p->len;
    pbuf_free(p);
}

int peers_lwip_recv(struct end *end, void *buf, size_t size) {
    u16_t total = 0;
    if (end->rx == NULL)
        return end->dead ? ERR_CLSD : 0;
    if (size > 0xffff)
        size = 0xffff;
    while (end->rx != NULL && total < size) {
        size_t n = end->rx->len - end->used;
        if (n > size - total)
            n = size - total;
        memcpy((char *)buf + total, (char *)end->rx->payload + end->used, n);
        total += n;
        end->used += n;
        if (end->used == end->rx->len)
            free_first(end);
    }
    if (end->pcb != NULL)
        tcp_recved(end->pcb, total);
    return total;
}

int peers_lwip_close(struct end *end) {
    err_t err = ERR_OK;
    if (end->pcb != NULL) {
        struct tcp_pcb *pcb = end->pcb;
        tcp_arg(pcb, NULL);
        tcp_recv(pcb, NULL);
        tcp_err(pcb, NULL);
        err = tcp_close(pcb);
    }
    while (end->rx != NULL)
        free_first(end);
    free(end);
    return err;
}

/* Packets for others than the two are lost. */
static int is_ours(const struct slot *slot) {
    return memcmp(slot->data + 16, &netifs[0].ip_addr, 3) == 0;
}

void peers_lwip_carry(void) {
    int from, moved;
    do {
        moved = 0;
        for (from = 0; from < 2; from++) {
            struct wire *wire = &wires[from];
            while (wire->len > 0) {
                struct slot *slot = &wire->slots[wire->head];
                moved = 1;
                if (is_ours(slot)) {
                    /* PBUF_POOL's buffers are shorter in Debian's build than it believes. */
                    struct pbuf *p = pbuf_alloc(PBUF_RAW, slot->len, PBUF_RAM);
                    if (p != NULL) {
                        struct netif *to = &netifs[1 - from];
                        pbuf_take(p, slot->data, slot->len);
                        if (to->input(p, to) != ERR_OK)
                            pbuf_free(p);
                    }
                }
                wire->head = (wire->head + 1) % SLOTS;
                wire->len--;
            }
        }
    } while (moved);
}

/* A packet from outside, to the server. */
void peers_lwip_inject(const void *packet, u16_t len) {
    struct pbuf *p = pbuf_alloc(PBUF_RAW, len, PBUF_RAM);
    if (p == NULL)
        return;
    pbuf_take(p, packet, len);
    if (netifs[1].input(p, &netifs[1]) != ERR_OK)
        pbuf_free(p);
}

/* The timers' quarter of a second, `ticks` times; a long pause of connections that wait for nothing is jumped over. */
void peers_lwip_tick(u32_t ticks) {
    if (ticks > 8) {
        tcp_ticks += ticks / 2 - 4;
        ticks = 8;
    }
    while (ticks-- > 0)
        tcp_tmr();
}
