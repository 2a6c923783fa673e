"""Draws the pictures of the documentation: `python docs/images/draw.py`.

Boxes and arrows as plain SVG, so that a change of a picture is a change of a line here.
"""

from __future__ import annotations

from pathlib import Path

from groundplane.picture import BLUE, GREEN, GREY, LINE, SAND, WHITE, Picture

FOLDER = Path(__file__).parent


def cluster() -> Picture:
    """What `make lab` builds."""
    picture = Picture(960, 560, "What make lab builds: five machines, one cluster")
    picture.box(20, 20, 920, 520, ["This computer"], GREY)

    picture.box(40, 60, 210, 180, ["Your shell"], WHITE)
    for number, line in enumerate(
        ("source .lab/env", "pulumi up", "groundplane preflight", "kubectl get nodes")
    ):
        picture.text(54, 108 + number * 22, "$ " + line)
    picture.text(54, 214, "Pulumi's state: .lab/state", soft=True)

    picture.box(40, 300, 210, 110, ["Mirror, 198.18.0.1"], SAND)
    for number, line in enumerate(
        ("downloads on port 8080", "container images on 5000", "the machines' only way out")
    ):
        picture.text(54, 348 + number * 22, line)

    picture.box(290, 50, 630, 470, ["A network of its own: 198.18.0.0/24"], WHITE, dashed=True)
    picture.box(
        470,
        85,
        260,
        48,
        ["The API: 198.18.0.10, port 8443", "held by one of cp1, cp2, cp3"],
        GREEN,
    )
    for number in range(3):
        x = 310 + number * 200
        picture.box(
            x,
            180,
            190,
            142,
            [
                f"cp{number + 1}   198.18.0.1{number + 1}",
                "keepalived, HAProxy",
                "API server",
                "controller manager",
                "scheduler",
                "etcd",
                "kubelet, containerd",
            ],
            BLUE,
        )
        picture.arrow((600 + (number - 1) * 60, 133), (x + 95, 178))
    for number in range(2):
        x = 410 + number * 200
        picture.box(
            x,
            390,
            190,
            70,
            [f"w{number + 1}   198.18.0.2{number + 1}", "kubelet, containerd", "your pods"],
            GREEN,
        )
    picture.text(415, 368, "a route on each machine to the pods of every other", soft=True)
    picture.text(
        310, 505, "each machine: a systemd container with its own init, sshd and disk", soft=True
    )
    picture.arrow((250, 110), (468, 110))
    picture.text(305, 102, "kubectl, TLS", soft=True)
    picture.arrow((250, 190), (306, 215))
    picture.text(258, 182, "SSH", soft=True)
    picture.arrow((290, 355), (252, 355))
    return picture


def steps() -> Picture:
    """The resources of one cluster in the order in which they run."""
    picture = Picture(1000, 560, "The steps of a cluster, in order")
    for x, heading in (
        (20, "all hosts at once"),
        (225, "once in a cluster's life"),
        (420, "all hosts at once"),
        (580, "before every join"),
        (770, "one after the other"),
    ):
        picture.text(x, 30, heading, soft=True)
    picture.box(20, 50, 165, 56, ["observation", "a look, no resource"], SAND, dashed=True)
    picture.arrow((102, 106), (102, 128))
    picture.box(10, 130, 185, 362, fill=GREY, dashed=True)
    picture.box(410, 130, 140, 362, fill=GREY, dashed=True)
    for number, host in enumerate(("cp1", "cp2", "cp3", "w1", "w2")):
        y = 140 + number * 70
        picture.box(20, y, 165, 52, [f"{host}-scripts, -bundle", f"{host}-prepare"])
        picture.box(420, y, 120, 52, [f"{host}-secrets"])
    picture.arrow((195, 300), (408, 300))
    picture.box(225, 50, 160, 56, ["bootstrap", "kubeadm init on cp1"], GREEN)
    picture.arrow((195, 150), (305, 150), (305, 108))
    picture.arrow((385, 78), (480, 78), (480, 128))
    picture.box(580, 140, 155, 52, ["membership", "ghosts out, new in"], GREEN)
    picture.arrow((550, 166), (578, 166))
    picture.arrow((735, 166), (768, 166))
    for number, host in enumerate(("cp1", "cp2", "cp3")):
        y = 140 + number * 70
        picture.box(770, y, 210, 52, [f"{host}-node", "behind the gate"], BLUE)
        if number:
            picture.arrow((875, y - 18), (875, y - 2))
    picture.box(580, 210, 155, 52, ["kubeconfig", "after cp1-node"], SAND)
    picture.arrow((770, 182), (752, 182), (752, 236), (737, 236))
    for number, host in enumerate(("w1", "w2")):
        x = 770 + number * 110
        picture.box(x, 370, 100, 46, [f"{host}-node"], BLUE)
        picture.arrow((x + 50, 332), (x + 50, 368))
        picture.arrow((x + 50, 416), (x + 50, 448))
    picture.arrow((735, 250), (752, 250), (752, 476), (768, 476))
    picture.text(580, 390, "workers in lanes of", soft=True)
    picture.text(580, 390 + LINE, "cluster.maxUnavailable", soft=True)
    picture.box(770, 450, 210, 52, ["nodes", "labels, taints, all Ready"], SAND)
    picture.box(10, 512, 540, 36, ["teardown: every step on a host is deleted with it"], GREY)
    return picture


def twins() -> Picture:
    """Both stacks of the lab, side by side."""
    picture = Picture(960, 560, "The twins of make lab: a cluster on machines, one on guests")
    picture.box(20, 20, 920, 520, ["This computer"], GREY)
    picture.box(250, 50, 460, 62, ["stacks/platform.yaml"], SAND)
    picture.text(260, 88, "what is equal: versions and settings", soft=True)
    picture.arrow((330, 112), (250, 148))
    picture.arrow((630, 112), (710, 148))

    picture.box(40, 150, 420, 285, ["lab-metal"], WHITE, dashed=True)
    picture.text(130, 170, "API 198.18.0.10, pods 10.244.0.0/16", soft=True)
    for number in range(3):
        x = 55 + number * 133
        picture.box(
            x, 190, 124, 76, [f"cp{number + 1}", f"198.18.0.1{number + 1}", "control plane"], BLUE
        )
    for number in range(2):
        x = 121 + number * 133
        picture.box(x, 290, 124, 76, [f"w{number + 1}", f"198.18.0.2{number + 1}", "worker"], GREEN)
    picture.text(55, 400, "systemd containers: each its own init, sshd, disk,", soft=True)
    picture.text(55, 400 + LINE, "network and size; one kernel for all", soft=True)

    picture.box(500, 150, 420, 285, ["lab-vm"], WHITE, dashed=True)
    picture.text(570, 170, "API 198.18.0.60, pods 10.245.0.0/16", soft=True)
    picture.box(515, 190, 390, 190, ["hv1   198.18.0.31   libvirt, QEMU"], GREY)
    picture.box(530, 222, 170, 76, ["vcp1", "198.18.0.61", "control plane"], BLUE)
    picture.box(720, 222, 170, 76, ["vw1", "198.18.0.71", "worker"], GREEN)
    picture.box(
        530, 312, 360, 52, ["one image, read by all", "beside it, what each guest wrote"], SAND
    )
    picture.text(515, 400, "a systemd container, and in it virtual machines: each", soft=True)
    picture.text(515, 400 + LINE, "its own kernel, by KVM or by emulation", soft=True)

    picture.box(40, 460, 880, 60, ["Network 198.18.0.0/24, and the mirror: 198.18.0.1"], WHITE)
    picture.text(50, 498, "downloads, images for containers, the image for guests", soft=True)
    picture.arrow((250, 435), (250, 458))
    picture.arrow((710, 435), (710, 458))
    return picture


PICTURES = {"cluster.svg": cluster, "steps.svg": steps, "twins.svg": twins}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (FOLDER / name).write_text(str(draw()), encoding="utf-8")
